from anyany.testing import checks, parametrize


@parametrize(checks("image/patch") + checks("image/vit") + checks("image/fsq"))
def test_conforms(check):
    check()
