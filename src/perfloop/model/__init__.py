"""The words of the house: frozen data, no I/O. Import from the module that holds the word."""
