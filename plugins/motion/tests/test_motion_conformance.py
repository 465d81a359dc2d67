from anyany.testing import checks, parametrize


@parametrize(checks("motion/rot6d") + checks("motion/latent"))
def test_conforms(check):
    check()
