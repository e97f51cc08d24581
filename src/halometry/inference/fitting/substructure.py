def with_line(*a): raise NotImplementedError
def with_subhalos(*a): raise NotImplementedError
