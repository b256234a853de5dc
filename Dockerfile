# deocclude on the CPU, without torch. docs/container.md says how to run it.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /opt/deocclude
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
# every module is compiled here: the image's own file system may be read-only
RUN /opt/deocclude/bin/pip install --no-cache-dir --compile -c constraints.txt ".[heif,serve]" \
    && /opt/deocclude/bin/pip uninstall -y pip

FROM python:${PYTHON}-slim
COPY --from=build /opt/deocclude /opt/deocclude
ENV PATH=/opt/deocclude/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/tmp
RUN ["/opt/deocclude/bin/deocclude", "doctor", "--device", "cpu", "--offline"]
EXPOSE 7860
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["deocclude"]
CMD ["--help"]
