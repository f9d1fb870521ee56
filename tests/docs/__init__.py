"""Tests that hold the documents, and the files in deploy/ and examples/, to the code."""
