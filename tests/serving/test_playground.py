"""The page at `/`, in a real browser: texts, alignments, streams, forms, files, errors."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keras_seqattn.serving import EmbeddedServer, ModelConfig, VersionPolicy
from tests.serving.conftest import function, write_saved_model

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def write_models(folder: Path) -> None:
    import tensorflow as tf

    def answer(text: Any) -> dict[str, Any]:
        rows = tf.shape(text)[0]
        return {
            "answer": tf.strings.join(["<b>", tf.strings.upper(text), "</b>"]),
            "score": tf.fill([rows], -0.5),
            "source_truncated": tf.strings.length(text) > 20,
            "answer_truncated": tf.fill([rows], False),
        }

    def attended(text: Any) -> dict[str, Any]:
        rows = tf.shape(text)[0]
        attention = tf.constant([[0.9, 0.1, 0.0], [0.0, 0.25, 0.75]])
        return {
            **answer(text),
            "source_tokens": tf.tile([["▁one", "▁two", "<img src=x onerror=alert(1)>"]], [rows, 1]),
            "answer_tokens": tf.tile([["▁uno", "▁tres"]], [rows, 1]),
            "attention": tf.tile(attention[None], [rows, 1, 1]),
        }

    text = ([None], "string")
    signatures = {"serving_default": function(answer, text=text), "serving_attention": function(attended, text=text)}
    write_saved_model(folder / "text" / "1", signatures)
    write_saved_model(folder / "text" / "2", signatures)

    def piece(prompt: Any, count: Any) -> dict[str, Any]:
        number = tf.strings.as_string(count)
        return {
            "piece": tf.strings.join([prompt, number, " "]),
            "finished": count >= 4,
            "memory_prompt": tf.identity(prompt),
            "state_count": count + 1,
        }

    def init(prompt: Any) -> dict[str, Any]:
        return piece(prompt, tf.zeros_like(tf.strings.length(prompt)))

    def step(memory_prompt: Any, state_count: Any) -> dict[str, Any]:
        made = piece(memory_prompt, state_count)
        del made["memory_prompt"]
        return made

    def whole(prompt: Any) -> dict[str, Any]:
        return {"text": prompt, "score": tf.fill([tf.shape(prompt)[0]], 0.0)}

    write_saved_model(
        folder / "stream" / "1",
        {
            "serving_default": function(whole, prompt=text),
            "init": function(init, prompt=text),
            "step": function(step, memory_prompt=text, state_count=([None], "int32")),
        },
    )
    write_saved_model(
        folder / "numbers" / "1",
        {
            "serving_default": function(
                lambda a, b: {"total": a @ tf.cast(b, "float32")[:, :, None], "shares": tf.nn.softmax(a)},
                a=([None, 2], "float32"),
                b=([None, 2], "int32"),
            ),
            "sizes": function(lambda image_bytes: {"size": tf.strings.length(image_bytes)}, image_bytes=text),
        },
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("playground")
    write_models(folder)
    configs = [
        ModelConfig("text", str(folder / "text"), VersionPolicy("all"), {"stable": 1, "canary": 2}),
        ModelConfig("stream", str(folder / "stream")),
        ModelConfig("numbers", str(folder / "numbers")),
    ]
    with EmbeddedServer(configs, allow_labels_for_unavailable=True) as server:
        yield server


def get(url: str) -> tuple[Any, bytes]:
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.headers, response.read()


def test_the_page_asks_no_other_host(server: EmbeddedServer) -> None:
    headers, page = get(f"{server.url}/")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    for outside in (b"https://", b"//cdn", b" src=", b"@import", b"url("):
        assert outside not in page.replace(b"http://www.w3.org/2000/svg", b""), outside


def test_the_list_of_models_has_versions_labels_and_signatures(server: EmbeddedServer) -> None:
    models = {model["name"]: model["versions"] for model in json.loads(get(f"{server.url}/playground/models")[1])}
    assert list(models) == ["numbers", "stream", "text"]
    assert [(version["version"], version["labels"]) for version in models["text"]] == [
        ("2", ["canary"]),
        ("1", ["stable"]),
    ]
    assert models["numbers"][0]["signatures"]["serving_default"]["inputs"] == {
        "a": {"dtype": "float", "shape": [-1, 2]},
        "b": {"dtype": "int32", "shape": [-1, 2]},
    }


@pytest.mark.rule("url.outside-v1")
def test_a_server_can_do_without_the_page(tmp_path: Path) -> None:
    with EmbeddedServer([], enable_playground=False) as server, pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{server.url}/")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: EmbeddedServer) -> Iterator[Any]:
    """The open page; afterwards, nothing may have failed in it, and no other host been asked."""
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: None if request.url.startswith(server.url) else wrong.append(request.url))
    page.goto(server.url)
    see(page, "#model option").to_have_count(3)
    yield page
    context.close()
    assert not wrong


def see(page: Any, selector: str) -> Any:
    """An expectation that is waited for."""
    from playwright.sync_api import expect

    return expect(page.locator(selector))


@needs_browser
def test_a_text_is_answered_and_its_alignment_drawn(page: Any) -> None:
    page.select_option("#model", "text")
    page.fill("textarea", "hola")
    page.click("#ask")
    page.wait_for_selector("#alignment:not([hidden])")
    assert page.inner_text("#answer") == "<b>HOLA</b>"  # as text, never as HTML
    assert "score -0.5" in page.inner_text("#facts")
    assert page.locator("#source-tokens span").all_inner_texts() == ["one", "two", "<img src=x onerror=alert(1)>"]
    assert page.locator("#answer-tokens span").all_inner_texts() == ["uno", "tres"]
    weights = [float(one.get_attribute("fill-opacity")) for one in page.locator("#map rect:not(.frame)").all()]
    assert weights == pytest.approx([0.9, 0.1, 0, 0, 0.25, 0.75], abs=1e-6)

    def shades() -> list[float]:
        script = "spans => spans.map(span => Number((span.style.background.match(/, ([0-9.e-]+)\\)/) || [0, 1])[1]))"
        return page.locator("#source-tokens span").evaluate_all(script)

    assert shades() == sorted(shades(), reverse=True)  # the first word of the answer, which looked at the first
    page.hover("#answer-tokens span:nth-child(2)")
    assert page.inner_text("#answer-tokens .chosen") == "tres"
    assert shades() == sorted(shades())  # and the second at the last
    page.focus("#answer-tokens span:nth-child(1)")  # by the keyboard
    assert page.inner_text("#answer-tokens .chosen") == "uno"


@needs_browser
def test_versions_are_chosen_with_their_labels_and_the_command_asks_the_same(page: Any, server: EmbeddedServer) -> None:
    page.select_option("#model", "text")
    assert page.locator("#version option").all_inner_texts() == ["newest", "2 (canary)", "1 (stable)"]
    page.select_option("#version", "1")
    page.fill("textarea", "it's")
    with page.expect_request("**/*:predict") as asked:
        page.click("#ask")
    assert asked.value.url == f"{server.url}/v1/models/text/versions/1:predict"
    page.wait_for_selector("#alignment:not([hidden])")
    page.click("summary")
    import subprocess

    printed = subprocess.run(["sh", "-c", page.inner_text("#command")], capture_output=True, check=True).stdout
    assert json.loads(printed)["outputs"]["answer"] == ["<b>IT'S</b>"]


@needs_browser
def test_a_cut_text_is_told(page: Any) -> None:
    page.select_option("#model", "text")
    page.fill("textarea", "a" * 30)
    page.click("#ask")
    page.wait_for_selector("#result:not([hidden])")
    assert "longer than the model reads" in page.inner_text("#facts")


@needs_browser
def test_a_stream_grows_piece_by_piece(page: Any) -> None:
    page.select_option("#model", "stream")
    page.fill("textarea", "n")
    page.keyboard.press("Control+Enter")
    see(page, "#answer").to_have_text("n0 n1 n2 n3 n4 ")
    page.wait_for_selector("#ask:not([disabled])")
    assert page.inner_text("#facts").startswith("5 × ")


@needs_browser
def test_other_models_have_a_form_of_their_inputs(page: Any) -> None:
    page.select_option("#model", "numbers")
    assert page.locator("#fields label").all_inner_texts() == ["a: float (n, 2)", "b: int32 (n, 2)"]
    page.fill("textarea[name=a]", "[[0.5, 1.5]]")
    page.click("#ask")
    see(page, "#status").to_have_text("Fill in: b")
    page.fill("textarea[name=b]", "[[2, ")
    page.click("#ask")
    see(page, "#status").to_contain_text("is not JSON")
    page.fill("textarea[name=b]", "[[2, 0]]")
    page.click("#ask")
    page.wait_for_selector("#outputs table")
    rows = page.locator("#outputs > table > tr").all_inner_texts()
    assert rows[1].split() == ["total", "[[[1]]]"]
    assert page.locator("#outputs meter").count() == 2  # shares are bars
    page.fill("textarea[name=b]", "[[2, 0.5]]")  # what the server refuses
    page.click("#ask")
    see(page, "#status").to_contain_text("is not of expected type: int32")


@needs_browser
def test_a_file_is_sent_as_bytes(page: Any) -> None:
    page.select_option("#model", "numbers")
    page.select_option("#signature", "sizes")
    page.set_input_files(
        "input[type=file]", {"name": "a.bin", "mimeType": "image/png", "buffer": bytes(range(256)) * 3}
    )
    page.click("#ask")
    page.wait_for_selector("#outputs table")
    assert page.inner_text("#outputs").split() == ["size", "[768]"]


@needs_browser
def test_a_server_that_has_gone_is_told(browser: Any, tmp_path: Path) -> None:
    write_models(tmp_path)
    with EmbeddedServer({"text": tmp_path / "text"}) as server:
        page = browser.new_page(locale="es-MX")
        page.goto(server.url)
        page.wait_for_selector("textarea")
        assert page.inner_text("h1") == "Pregunta a un modelo"
        assert page.evaluate("document.documentElement.lang") == "es"
    page.fill("textarea", "hola")
    page.click("#ask")
    see(page, "#status").to_have_text("El servidor no responde.")
    page.close()
