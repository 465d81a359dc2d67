from anyany.testing import checks, parametrize


@parametrize(checks("audio/logmel") + checks("audio/melcodes"))
def test_conforms(check):
    check()
