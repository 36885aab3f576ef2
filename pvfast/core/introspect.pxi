# What the decoder chose: for the tests that prove every generated handler to have run.
#
# Enters: nothing. Leaves: handlers by the address of their block. Nothing here is called while a guest runs.

cdef dict HANDLER_NUMBERS = {<u64>all_handlers[number]: number
                             for number in range(sizeof(all_handlers) // sizeof(all_handlers[0]))}


def makes_tail_calls():
    """Whether handlers of this build jump to the next one, rather than return after each block."""
    return bool(TAIL_CALLS)


def decoded_handlers(Engine engine not None):
    """(linear address, end, numbers of the generated handlers) of every fresh block; isa/generate.py names them.

    A block is decoded when it is about to run, so all of these have been entered.
    """
    cdef Block* block
    cdef u32 i, position
    result = []
    engine.check_idle()
    for i in range(LINE_LISTS):
        block = engine.cpu.linears[i]
        while block != NULL:
            numbers = [HANDLER_NUMBERS.get(<u64>first_uop(block)[position].run) for position in range(block.uops)]
            result.append((block.linear, block.linear + block.length, [n for n in numbers if n is not None]))
            block = block.linear_next
    return result
