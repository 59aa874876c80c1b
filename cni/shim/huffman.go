package shim

// huffmanLengths holds the code length of every byte, and of the end of string
// (EOS) as the last one, in RFC 7541 appendix B: 'A' stands for 5 bits. The
// appendix's code is canonical, so the lengths define it.
const huffmanLengths = "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHF" +
	"IBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIX" +
	"PRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRS" +
	"VVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ"

const (
	huffmanMin = 5
	huffmanMax = 30
	huffmanEOS = 256
)

const errHuffman textError = "hpack: invalid huffman code"

// huffmanCode is the code in a form for decoding: the number of codes of each
// length, and the symbols in the order of their codes.
type huffmanCode struct {
	ready   bool
	count   [huffmanMax + 1]uint16
	symbols [huffmanEOS + 1]uint16
}

// order fills c in at its first use: not at every start, and in one pass, because
// this program only ever decodes an answer with a handful of strings.
func (c *huffmanCode) order() {
	if c.ready {
		return
	}
	c.ready = true
	for i := range len(huffmanLengths) {
		c.count[huffmanLength(i)]++
	}
	var next [huffmanMax + 1]uint16 // where the symbols of a length begin
	for length := huffmanMin; length < huffmanMax; length++ {
		next[length+1] = next[length] + c.count[length]
	}
	for i := range len(huffmanLengths) {
		length := huffmanLength(i)
		c.symbols[next[length]] = uint16(i)
		next[length]++
	}
}

func huffmanLength(symbol int) int { return int(huffmanLengths[symbol]-'A') + huffmanMin }

// decode decodes b (RFC 7541 section 5.2). Answers hold a few short strings of
// this kind, so it walks bit by bit over the canonical code instead of keeping
// a decoding table.
func (c *huffmanCode) decode(b []byte) (string, error) {
	c.order()
	var room [128]byte
	out := room[:0]
	var code, first, index, length int // of the code word being read
	for i := range len(b) * 8 {
		bit := int(b[i/8]>>(7-i%8)) & 1
		code = code<<1 | bit
		first <<= 1
		length++
		if length > huffmanMax {
			return "", errHuffman
		}
		n := int(c.count[length])
		if code-first < n {
			symbol := c.symbols[index+code-first]
			if symbol == huffmanEOS { // "MUST be treated as a decoding error"
				return "", errHuffman
			}
			out = append(out, byte(symbol))
			code, first, index, length = 0, 0, 0, 0
			continue
		}
		index += n
		first += n
	}
	// The remaining bits must be padding: fewer than eight bits, all of them 1.
	if length > 7 || code != 1<<length-1 {
		return "", errHuffman
	}
	return string(out), nil
}
