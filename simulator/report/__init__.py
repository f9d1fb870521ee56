"""The report: a result on the console, as JSON and as an HTML page."""
