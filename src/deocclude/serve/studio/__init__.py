"""The studio: a page on which a user finds people, sees them whole, steers the completion and uses the layers.

Routes, open photos and the page's files. The pipeline itself is elsewhere: `people.editing`.
"""
