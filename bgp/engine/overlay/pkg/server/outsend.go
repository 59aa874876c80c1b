// Part of the patch fanout/update-groups.

package server

import (
	"fmt"
	"sync"
	"time"
)

// outBuffer is what a buffer has room for: a piece, and the part of one that came
// before it.
const outBuffer = outChunk + outChunk/2

// outBuffers holds buffers of outBuffer bytes, as []byte pointers.
var outBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, outBuffer)
	return &b
}}

// sendUpdates writes what the peer has to be told, about outChunk bytes of it;
// it sees to it that it is called again for the rest.
func (h *fsmHandler) sendUpdates() error {
	pooled := outBuffers.Get().(*[]byte)
	defer outBuffers.Put(pooled)
	buf, msgs, more := h.out.fill((*pooled)[:0])
	*pooled = buf[:0]
	if more {
		h.out.signal()
	}
	if len(buf) == 0 {
		return nil
	}
	fsm := h.fsm
	if err := h.conn.SetWriteDeadline(time.Now().Add(h.sendHold())); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if _, err := h.conn.Write(buf); err != nil {
		h.sendFailed(err)
		return err
	}
	fsm.lock.Lock()
	sent := &fsm.pConf.State.Messages.Sent
	sent.Total += uint64(msgs)
	sent.Update += uint64(msgs)
	fsm.lock.Unlock()
	return nil
}
