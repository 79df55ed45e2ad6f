"""For all tests: a machine that is busy makes no property fail, for what takes long belongs in benchmarks/."""

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
