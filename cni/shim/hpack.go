package shim

// hpackTable is the size of the dynamic table with which both sides start (RFC
// 7541 section 4.2, SETTINGS_HEADER_TABLE_SIZE); the shim never changes it.
const hpackTable = 4096

// Errors of header decoding; each one is a connection error of type
// COMPRESSION_ERROR (RFC 9113 section 4.3).
const (
	errHpackEnd   textError = "hpack: header block is cut off"
	errHpackIndex textError = "hpack: index outside the tables"
	errHpackInt   textError = "hpack: integer too large"
	errHpackSize  textError = "hpack: invalid table size update"
)

// field is one header field.
type field struct{ name, value string }

func (f field) size() int { return len(f.name) + len(f.value) + 32 } // RFC 7541 section 4.1

// decoder decodes header blocks (RFC 7541) of one connection, in the order
// they arrive.
type decoder struct {
	dynamic []field // newest first
	size    int
	limit   int
	huffman huffmanCode

	// Room for the few fields of an answer.
	first  [8]field
	fields [8]field
}

// block decodes one complete header block. The result is valid until the next.
func (d *decoder) block(b []byte) ([]field, error) {
	fields := d.fields[:0]
	for len(b) > 0 {
		c := b[0]
		var f field
		var err error
		switch {
		case c&0x80 != 0: // 6.1 indexed
			var i int
			if i, b, err = hpackInt(b, 7); err == nil {
				f, err = d.at(i)
			}
		case c&0xc0 == 0x40: // 6.2.1 literal, added to the table
			if f, b, err = d.literal(b, 6); err == nil {
				d.add(f)
			}
		case c&0xe0 == 0x20: // 6.3 table size update: only before the first field
			if len(fields) > 0 {
				return nil, errHpackSize
			}
			if b, err = d.resize(b); err != nil {
				return nil, err
			}
			continue
		default: // 6.2.2 and 6.2.3 literal, not added
			f, b, err = d.literal(b, 4)
		}
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func (d *decoder) at(i int) (field, error) {
	switch {
	case i == 0:
		return field{}, errHpackIndex
	case i <= len(hpackStatic):
		return hpackStatic[i-1], nil
	case i-len(hpackStatic) <= len(d.dynamic):
		return d.dynamic[i-len(hpackStatic)-1], nil
	}
	return field{}, errHpackIndex
}

func (d *decoder) literal(b []byte, prefix int) (f field, rest []byte, err error) {
	i, b, err := hpackInt(b, prefix)
	if err != nil {
		return field{}, nil, err
	}
	if i == 0 {
		f.name, b, err = d.text(b)
	} else {
		f, err = d.at(i)
	}
	if err != nil {
		return field{}, nil, err
	}
	f.value, b, err = d.text(b)
	return f, b, err
}

func (d *decoder) add(f field) {
	d.dynamic = append(d.dynamic, field{})
	copy(d.dynamic[1:], d.dynamic)
	d.dynamic[0] = f
	d.size += f.size()
	d.evict()
}

func (d *decoder) evict() {
	for d.size > d.limit {
		last := len(d.dynamic) - 1
		d.size -= d.dynamic[last].size()
		d.dynamic = d.dynamic[:last]
	}
}

func (d *decoder) resize(b []byte) ([]byte, error) {
	n, b, err := hpackInt(b, 5)
	if err != nil {
		return nil, err
	}
	if n > hpackTable {
		return nil, errHpackSize
	}
	d.limit = n
	d.evict()
	return b, nil
}

// hpackInt reads an integer whose first byte has prefix bits for it
// (RFC 7541 section 5.1).
func hpackInt(b []byte, prefix int) (v int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errHpackEnd
	}
	mask := 1<<prefix - 1
	v = int(b[0]) & mask
	b = b[1:]
	if v < mask {
		return v, b, nil
	}
	for shift := 0; ; shift += 7 {
		if len(b) == 0 {
			return 0, nil, errHpackEnd
		}
		if shift > 21 { // 28 bits: longer than any header block that the shim accepts
			return 0, nil, errHpackInt
		}
		c := b[0]
		b = b[1:]
		v += int(c&0x7f) << shift
		if c&0x80 == 0 {
			return v, b, nil
		}
	}
}

// text reads a string literal (RFC 7541 section 5.2).
func (d *decoder) text(b []byte) (s string, rest []byte, err error) {
	coded := len(b) > 0 && b[0]&0x80 != 0
	n, b, err := hpackInt(b, 7)
	if err != nil {
		return "", nil, err
	}
	if n > len(b) {
		return "", nil, errHpackEnd
	}
	if coded {
		s, err = d.huffman.decode(b[:n])
	} else {
		s = string(b[:n])
	}
	return s, b[n:], err
}

// appendLiteral appends a field that is added to no table, with its name given
// by index into the static table, or by name when index is 0.
func appendLiteral(b []byte, index int, name, value string) []byte {
	if index < 15 {
		b = append(b, byte(index))
	} else {
		b = append(b, 0x0f, byte(index-15))
	}
	if index == 0 {
		b = appendHpackString(b, name)
	}
	return appendHpackString(b, value)
}

func appendHpackString(b []byte, s string) []byte {
	if n := len(s); n < 0x7f {
		b = append(b, byte(n))
	} else {
		b = appendVarint(append(b, 0x7f), uint64(n-0x7f))
	}
	return append(b, s...)
}

// hpackStatic is the static table of RFC 7541 appendix A.
var hpackStatic = [...]field{
	{":authority", ""},
	{":method", "GET"},
	{":method", "POST"},
	{":path", "/"},
	{":path", "/index.html"},
	{":scheme", "http"},
	{":scheme", "https"},
	{":status", "200"},
	{":status", "204"},
	{":status", "206"},
	{":status", "304"},
	{":status", "400"},
	{":status", "404"},
	{":status", "500"},
	{"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"},
	{"accept-language", ""},
	{"accept-ranges", ""},
	{"accept", ""},
	{"access-control-allow-origin", ""},
	{"age", ""},
	{"allow", ""},
	{"authorization", ""},
	{"cache-control", ""},
	{"content-disposition", ""},
	{"content-encoding", ""},
	{"content-language", ""},
	{"content-length", ""},
	{"content-location", ""},
	{"content-range", ""},
	{"content-type", ""},
	{"cookie", ""},
	{"date", ""},
	{"etag", ""},
	{"expect", ""},
	{"expires", ""},
	{"from", ""},
	{"host", ""},
	{"if-match", ""},
	{"if-modified-since", ""},
	{"if-none-match", ""},
	{"if-range", ""},
	{"if-unmodified-since", ""},
	{"last-modified", ""},
	{"link", ""},
	{"location", ""},
	{"max-forwards", ""},
	{"proxy-authenticate", ""},
	{"proxy-authorization", ""},
	{"range", ""},
	{"referer", ""},
	{"refresh", ""},
	{"retry-after", ""},
	{"server", ""},
	{"set-cookie", ""},
	{"strict-transport-security", ""},
	{"transfer-encoding", ""},
	{"user-agent", ""},
	{"vary", ""},
	{"via", ""},
	{"www-authenticate", ""},
}
