// Copy buttons come in `nav` elements without a name, and tables that scroll cannot be reached by keyboard.
new MutationObserver(() => {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) nav.setAttribute("role", "none");
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])"))
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
}).observe(document.documentElement, { childList: true, subtree: true });
