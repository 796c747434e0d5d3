"""What the images for machines without an image registry are named by, and what they take from their host."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stack.images.content import folder_content, tag_of
from stack.images.host import pip_file, proxy_lines
from stack.images.recipes import RECIPES


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_an_image_is_made_again_exactly_when_an_input_changes(some: list[bytes], other: list[bytes]) -> None:
    assert (tag_of("minio", some) == tag_of("minio", other)) == (some == other)


def test_a_changed_file_name_or_content_changes_what_a_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = folder_content(tmp_path)
    (tmp_path / "a").write_text("2")
    second = folder_content(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({tag_of("x", content) for content in (first, second, folder_content(tmp_path))}) == 3


def test_images_trust_their_own_bundle_and_reach_the_index_of_the_host() -> None:
    listing = ["global.cert='/here/ca.pem'", "global.index-url='https://index.test/simple'", ":env:.find-links='/opt'"]
    assert pip_file(listing) == (
        "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\nindex-url = https://index.test/simple\n"
    )


def test_the_environment_of_the_host_wins_over_its_files() -> None:
    listing = ["global.index-url='https://file.test'", ":env:.index-url='https://environment.test'"]
    assert "index-url = https://environment.test\n" in pip_file(listing)


def test_only_proxies_of_apt_go_into_images() -> None:
    dump = [
        'Acquire "";',
        'Acquire::Languages "none";',
        'Acquire::http::Proxy "http://proxy.test:3128";',
        'Acquire::https::Proxy "";',
    ]
    assert proxy_lines(dump) == 'Acquire::http::Proxy "http://proxy.test:3128";\n'


def test_every_recipe_has_its_dockerfile_built_on_the_one_base() -> None:
    folder = Path(__file__).parent / "images"
    for recipe in RECIPES.values():
        assert (folder / recipe.name / "Dockerfile").read_text().startswith("ARG BASE\nFROM ${BASE}\n")
