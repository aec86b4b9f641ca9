"""Static files: whole answers, compressed, closed to other origins."""

from django.test import Client


def test_a_static_file_is_sent_whole_and_to_this_origin_alone() -> None:
    answer = Client().get("/static/console.css")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/css")
    assert b":root" in answer.content
    assert "Access-Control-Allow-Origin" not in answer
    assert answer["Content-Security-Policy"]


def test_who_has_a_static_file_is_not_sent_it_again() -> None:
    first = Client().get("/static/console.js")
    again = Client(headers={"If-Modified-Since": first["Last-Modified"]}).get("/static/console.js")
    assert again.status_code == 304
    assert not again.content


def test_nothing_outside_the_folder_is_served() -> None:
    for path in ("/static/../console.secret", "/static/%2e%2e/console.secret", "/static/none"):
        assert Client().get(path).status_code == 404


def test_nothing_that_a_browser_loads_comes_from_elsewhere() -> None:
    """No page loads anything from another host: the console works where there is no internet."""
    page = Client().get("/login/").content.decode()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    style = Client().get("/static/console.css").content.decode()
    assert "url(" not in style
    assert "@import" not in style
