"""News of a new timestamp reach every part, once."""

from fleetward.relay.news import News


def test_all_are_told_in_their_order_and_once_for_each_content() -> None:
    news = News()
    told: list[tuple[str, bytes]] = []
    news.publish(b"before")
    assert news.latest == b"before"
    news.subscribe(lambda timestamp: told.append(("first", timestamp)))
    news.subscribe(lambda timestamp: told.append(("second", timestamp)))
    news.publish(b"one")
    news.publish(b"one")
    news.publish(b"two")
    assert told == [
        ("first", b"one"),
        ("second", b"one"),
        ("first", b"two"),
        ("second", b"two"),
    ]


def test_who_subscribes_while_news_are_told_hears_the_next() -> None:
    news = News()
    told: list[bytes] = []
    news.subscribe(lambda _: news.subscribe(told.append))
    news.publish(b"one")
    assert not told
    news.publish(b"two")
    assert told == [b"two"]
