"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How fast examples are made is no property of what is tested, and depends on what else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
