"""`pykdump`: the kdump service, with its configuration, sizing, diagnosis and capture system."""
