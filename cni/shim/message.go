package shim

// request is onlink.v1.CNIRequest of proto/v1/cni.proto.
type request struct {
	containerID, netns, ifname, args, path string
	config                                 []byte
	version                                string
}

// Protobuf wire types (protobuf.dev, "Encoding").
const (
	wireVarint = 0
	wireFixed8 = 1
	wireBytes  = 2
	wireFixed4 = 5
)

// size returns an upper bound of the bytes that append appends.
func (r request) size() int {
	const tags = 7 * 6
	return len(r.containerID) + len(r.netns) + len(r.ifname) + len(r.args) + len(r.path) + len(r.config) + len(r.version) + tags
}

// append encodes r, leaving out empty fields as proto3 does.
func (r request) append(b []byte) []byte {
	for i, s := range [...]string{r.containerID, r.netns, r.ifname, r.args, r.path} {
		if s != "" {
			b = appendTag(b, i+1, len(s))
			b = append(b, s...)
		}
	}
	if len(r.config) > 0 {
		b = appendTag(b, 6, len(r.config))
		b = append(b, r.config...)
	}
	if r.version != "" {
		b = appendTag(b, 7, len(r.version))
		b = append(b, r.version...)
	}
	return b
}

func appendTag(b []byte, field, length int) []byte {
	return appendVarint(append(b, byte(field<<3|wireBytes)), uint64(length))
}

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// varint returns the value at the start of b and its length; length 0 means
// that b holds no complete varint.
func varint(b []byte) (v uint64, n int) {
	for i := 0; i < len(b) && i < 10; i++ {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

const errMessage textError = "malformed protobuf message"

// parseReply decodes onlink.v1.CNIReply; it skips unknown fields, so that an
// older shim can read the answers of a newer agent.
func parseReply(b []byte) (stdout []byte, exitCode int, err error) {
	for len(b) > 0 {
		tag, n := varint(b)
		if n == 0 {
			return nil, 0, errMessage
		}
		b = b[n:]
		var value uint64
		var chunk []byte
		switch tag & 7 {
		case wireVarint:
			if value, n = varint(b); n == 0 {
				return nil, 0, errMessage
			}
		case wireFixed8:
			n = 8
		case wireFixed4:
			n = 4
		case wireBytes:
			length, head := varint(b)
			if head == 0 || length > uint64(len(b)-head) {
				return nil, 0, errMessage
			}
			n = head + int(length)
			chunk = b[head:n]
		default:
			return nil, 0, errMessage
		}
		if n > len(b) {
			return nil, 0, errMessage
		}
		b = b[n:]
		switch tag {
		case 1<<3 | wireBytes:
			stdout = chunk
		case 2<<3 | wireVarint:
			exitCode = int(value & 0xff) // a process's exit code has eight bits
		}
	}
	return stdout, exitCode, nil
}
