package shim

// huffmanLengths holds the code length of every byte, and of the end of
// string (EOS) as the last one, in RFC 7541 appendix B: 'A' stands for 5 bits.
// The appendix's code is canonical, so the lengths are all there is to know of
// it.
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

// huffman decodes b (RFC 7541 section 5.2). Answers hold a few short strings
// of this kind, so it walks bit by bit over the canonical code instead of
// keeping a decoding table.
func huffman(b []byte) (string, error) {
	count, symbols := huffmanOrder()
	out := make([]byte, 0, len(b)*8/huffmanMin)
	var code, first, index, length int // of the code word being read
	for i := range len(b) * 8 {
		bit := int(b[i/8]>>(7-i%8)) & 1
		code = code<<1 | bit
		first <<= 1
		length++
		if length > huffmanMax {
			return "", errHuffman
		}
		n := int(count[length])
		if code-first < n {
			symbol := symbols[index+code-first]
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
	// What is left must be padding: fewer than eight bits, all of them 1.
	if length > 7 || code != 1<<length-1 {
		return "", errHuffman
	}
	return string(out), nil
}

// huffmanOrder returns how many codes each length has, and the symbols in the
// order of their codes.
func huffmanOrder() (count [huffmanMax + 1]uint16, symbols [huffmanEOS + 1]uint16) {
	n := 0
	for length := huffmanMin; length <= huffmanMax; length++ {
		for symbol := range len(huffmanLengths) {
			if int(huffmanLengths[symbol]-'A')+huffmanMin == length {
				symbols[n] = uint16(symbol)
				count[length]++
				n++
			}
		}
	}
	return count, symbols
}
