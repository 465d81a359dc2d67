from anyany.testing import checks, parametrize


@parametrize(checks("video/frames") + checks("video/fsq"))
def test_conforms(check):
    check()
