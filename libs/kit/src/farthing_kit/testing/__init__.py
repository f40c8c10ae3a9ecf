"""What tests of every service stand on: real servers in process, real child processes, virtual time, broken networks.

`pytest_plugins = ["farthing_kit.testing.plugin"]` in a conftest.py gives the fixtures.
"""
