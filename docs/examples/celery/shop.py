"""A shop that finds products by what they mean: an ordinary Celery app, and no line of Forebay.

    celery --workdir docs/examples/celery -A shop worker -Q shop
    python docs/examples/celery/shop.py "something to sit on"

The models' tasks are known by name and queue only; what comes of them goes to a task of the shop's
own. SHOP_REDIS says where broker and results are.
"""

import os
import sys

from celery import Celery, chord, signature
from celery.canvas import Signature

REDIS = os.environ.get("SHOP_REDIS", "redis://127.0.0.1:6379/2")
PRODUCTS = ("oak chair", "reading lamp", "espresso machine", "wool blanket", "garden hose")

app = Celery("shop", broker=REDIS, backend=REDIS)
app.conf.broker_connection_retry_on_startup = True


def embed(text: str) -> Signature[list[float]]:
    """A vector of a text, by Forebay's `minilm`."""
    return signature(
        "forebay.predict", kwargs={"input": {"text": text}}, queue="forebay.minilm", app=app
    )


@app.task(name="shop.closest", queue="shop")
def closest(vectors: list[list[float]]) -> str:
    """The product whose vector is closest to the first one."""
    wanted, *offered = vectors

    def likeness(index: int) -> float:
        return sum(one * other for one, other in zip(wanted, offered[index], strict=True))

    return PRODUCTS[max(range(len(PRODUCTS)), key=likeness)]


def find(text: str) -> str:
    """The product that a text asks for."""
    vectors = [embed(text), *(embed(product) for product in PRODUCTS)]
    found: str = chord(vectors, closest.s().set(queue="shop")).apply_async().get(timeout=120)
    return found


if __name__ == "__main__":
    print(find(sys.argv[1]))
