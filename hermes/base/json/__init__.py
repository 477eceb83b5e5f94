"""JSON text: found, checked and cut by its bytes, before and without decoding it. Pure.

- ``rules``: the rules that every JSON body has to keep, and the words for a body that breaks one
- ``elements``, ``value_ends``: the elements of an array; where a value ends
- ``cut``, ``long_values``: a large body in bodies of the same form; a large value a piece at a time
- ``missing_fields``: the member that a client may have meant for a missing field
- ``wrong_types``: the words for a member with a wrong value
"""
