"""One atomic operation each, on messages of Celery apps that were put aside."""
