package rtnl

// Batch is a sequence of requests that are sent with one system call. The
// kernel acknowledges the last one only, and continues after one it rejects.
type Batch struct {
	Builder

	ops   []string // operation of each message, for errors
	heads []int    // where each message starts
}

// NewBatch returns an empty batch with room for size bytes.
func NewBatch(size int) *Batch { return &Batch{Builder: Builder{B: make([]byte, 0, size)}} }

// Add begins the next message; errors name it op.
func (b *Batch) Add(op string, kind, flags uint16) {
	b.ops = append(b.ops, op)
	b.heads = append(b.heads, b.Begin(kind, flags, 0))
}

// Len returns the number of messages.
func (b *Batch) Len() int { return len(b.heads) }

// Op returns the operation of message i.
func (b *Batch) Op(i int) string { return b.ops[i] }

// Stamp makes the batch ready to be sent: it fills in the lengths and the
// sequence numbers, the first message's being first, and requests the
// acknowledgement of the last message.
func (b *Batch) Stamp(first uint32) {
	const seqAt = 8
	for i, head := range b.heads {
		end := len(b.B)
		if i+1 < len(b.heads) {
			end = b.heads[i+1]
		}
		native.PutUint32(b.B[head:], uint32(end-head))
		native.PutUint32(b.B[head+seqAt:], first+uint32(i))
	}
	if n := len(b.heads); n > 0 {
		b.AskAck(b.heads[n-1])
	}
}
