"""Messages to people, taken by a real HTTP server."""

import logging

from ml_assets.adapters.alerts import send
from ml_assets_tests.adapters.sink import sink


def test_every_address_gets_the_message(monkeypatch):
    with sink() as (first, received), sink() as (second, others):
        monkeypatch.setenv("ML_ASSETS_ALERT_URLS", f"json://{first}/a, json://{second}/b")
        sent = send("tables/weather gave up", "The source does not answer.")
    assert str(sent) == "Sent to json://…, json://…."
    assert [(m["path"], m["title"], m["message"]) for m in received + others] == [
        ("/a", "tables/weather gave up", "The source does not answer."),
        ("/b", "tables/weather gave up", "The source does not answer."),
    ]


def test_without_an_address_it_says_that_nobody_was_told(monkeypatch):
    monkeypatch.delenv("ML_ASSETS_ALERT_URLS", raising=False)
    assert str(send("t", "b")) == "No address is configured (ML_ASSETS_ALERT_URLS): nobody was told."


def test_a_token_without_scheme_is_not_shown(monkeypatch):
    monkeypatch.setenv("ML_ASSETS_ALERT_URLS", "hunter2token")
    assert str(send("t", "b")) == "Sent to nobody. Not taken by an address without scheme: check ML_ASSETS_ALERT_URLS."


def test_an_address_that_fails_hinders_no_other_and_no_secret_is_shown(monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with sink() as (good, received), sink(status=500) as (bad, _):
        urls = f"json://me:secret1@{bad}/secret2, json://127.0.0.1:9/secret3, nosuch://secret4, json://{good}/secret5"
        monkeypatch.setenv("ML_ASSETS_ALERT_URLS", urls)
        sent = send("t", "b")
    assert len(received) == 1
    assert str(sent) == ("Sent to json://…. Not taken by json://…, json://…, nosuch://…: check ML_ASSETS_ALERT_URLS.")
    assert "secret" not in caplog.text + "".join(capfd.readouterr())
    assert logging.getLogger("apprise").level == logging.NOTSET
