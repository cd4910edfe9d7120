"""Where the answers go: rows, tables, parts and the journal that lets a killed run go on."""
