def text(a,b): pass
