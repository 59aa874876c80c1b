// Part of the patch memory/prefix-tables.

package table

import "math/bits"

// localIDs are the local path identifiers of a destination that are in use.
// Nearly every destination has one path, so the first 63 need no memory of
// their own. 0 means "none yet" and is never given.
type localIDs struct {
	low  uint64
	more *Bitmap // from 64 on, less 64
}

// take returns an identifier that is not in use.
func (l *localIDs) take() uint32 {
	if free := ^(l.low | 1); free != 0 {
		i := bits.TrailingZeros64(free)
		l.low |= 1 << i
		return uint32(i)
	}
	if l.more == nil {
		l.more = NewBitmap(64)
	}
	i, err := l.more.FindandSetZeroBit()
	if err != nil {
		l.more.Expand()
		i, _ = l.more.FindandSetZeroBit()
	}
	return uint32(i) + 64
}

// give makes an identifier free.
func (l *localIDs) give(id uint32) {
	switch {
	case id < 64:
		l.low &^= 1 << id
	case l.more != nil && int(id-64)/64 < len(l.more.bitmap):
		l.more.Unflag(uint(id - 64))
	}
}

// inUse reports whether any identifier is.
func (l *localIDs) inUse() bool {
	if l.low != 0 {
		return true
	}
	if l.more != nil {
		for _, w := range l.more.bitmap {
			if w != 0 {
				return true
			}
		}
	}
	return false
}
