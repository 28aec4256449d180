"""The report page: data, curves and the page around them."""
