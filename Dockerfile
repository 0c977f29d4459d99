# One image for every role: web, workers, beat and commands differ in the command alone.
# docs/deployment.md shows how it is run; tests/house/test_deployment.py runs the same commands without an engine.

FROM python:3.11-slim-trixie AS build
RUN python -m venv /opt/venv
COPY requirements.txt /build/requirements.txt
# Wheels alone: nothing of a package runs while it is installed.
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary=:all: -r /build/requirements.txt

FROM python:3.11-slim-trixie
# backup_database needs a client that is as new as the server of compose.yaml.
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-client-17 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 loyalty \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin loyalty
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/loyalty
COPY manage.py gunicorn.conf.py ./
COPY notifications notifications
COPY loyalty loyalty
COPY wallet wallet
COPY loyalty_site loyalty_site
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A checkout that was made under umask 077 has files that only its owner reads, who is not the user of this image.
# Neither value is kept: they are there for this one command, which needs settings and no secrets.
RUN chmod -R u=rwX,go=rX /opt/loyalty \
    && SECRET_KEY=not-kept PIN_PEPPER=not-kept python manage.py collectstatic --noinput \
    && python -m compileall -q notifications loyalty wallet loyalty_site
USER 10001:10001
EXPOSE 8000
CMD ["gunicorn", "loyalty_site.wsgi", "--bind=0.0.0.0:8000", "--workers=2", "--threads=4", "--timeout=60", "--graceful-timeout=30", "--worker-tmp-dir=/dev/shm", "--no-control-socket"]
