def rewrite(a): pass
