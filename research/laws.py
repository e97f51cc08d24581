def analysis(done):
    return {}
