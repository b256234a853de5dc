"""What our networks are compared with: one file a method, in the blocks that ours are made of.

Each keeps its method's architecture and training target, and takes what ours take: a crop and an initial mask (stage
1), or what is seen of a body and its masks (stage 2). `train/methods.py` names them all.
"""
