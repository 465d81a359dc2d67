from anyany.testing import checks, parametrize


@parametrize(checks("timeseries/patch") + checks("timeseries/patches"))
def test_conforms(check):
    check()
