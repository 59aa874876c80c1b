package shim

// Memory is the memory of a call, laid out beforehand: in a program that has just
// started, the first allocation of each size costs the runtime more than reading
// the whole configuration. Its zero value is ready for one call; larger parts are
// allocated.
type Memory struct {
	h2      h2
	scratch [scratchSize]byte
	taken   int // of scratch
}

const scratchSize = 8 << 10

// take returns an empty slice with room for n bytes.
func (m *Memory) take(n int) []byte {
	if n > scratchSize-m.taken {
		return make([]byte, 0, n)
	}
	b := m.scratch[m.taken : m.taken : m.taken+n]
	m.taken += n
	return b
}

// takeAll returns an empty slice with all the room; it must be the first to take.
// A caller that uses less sets taken.
func (m *Memory) takeAll() []byte {
	m.taken = scratchSize
	return m.scratch[:0]
}
