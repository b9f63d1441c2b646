# Flyte's server in a container: `docker build -t flyte .`, or `make docker-run`.
# What is built and how is in deploy/install, which CI runs as well.
FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN deploy/install /opt/flyte

FROM python:3.13-slim-bookworm
RUN groupadd --system --gid 10001 flyte \
 && useradd --system --uid 10001 --gid flyte --home-dir /data --no-create-home --shell /usr/sbin/nologin flyte \
 && install --directory --owner=flyte --group=flyte --mode=0750 /data
COPY --from=build /opt/flyte /opt/flyte

# The store is flyte.db in /data, where the server starts, unless FLYTE_STORE or FLYTE_MGO_HOST names another. Only /data is written to.
# Outside of a container, the health of a pack is for its own machine only; here its operator has to reach it.
ENV PATH=/opt/flyte/bin:$PATH FLYTE_HOST=0.0.0.0 FLYTE_PACK_HEALTH_HOST=0.0.0.0 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["flyte", "health"]
ENTRYPOINT ["flyte"]
CMD ["serve"]
