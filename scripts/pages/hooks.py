"""Hooks of MkDocs: the pages that are generated, and links to files outside of docs/."""

from pathlib import Path

import commands
import elsewhere
import http_api
import python_api
import rows
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated reference, and the pages whose files lie beside docs/."""
    generated = {
        **elsewhere.pages(ROOT),
        **python_api.pages(ROOT),
        **commands.pages(),
        "reference/http.md": http_api.page(),
        "reference/rows.md": rows.page(),
    }
    for uri, markdown in generated.items():
        files.append(File.generated(config, uri, content=markdown))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that lead out of docs/ lead to the page of that file."""
    return elsewhere.with_links_of_the_site(markdown, page.file.src_uri)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make empty cells of a table's head plain cells: a header that says nothing is read out all the same."""
    return html.replace("<th></th>", "<td></td>")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Give the search a name, which the theme leaves out."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
