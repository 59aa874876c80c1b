package shim

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"
)

// TestHpackVectors decodes RFC 7541 appendix C.5 and C.6: responses with a
// dynamic table of 256 bytes, from which entries are evicted.
func TestHpackVectors(t *testing.T) {
	tests := []struct {
		name   string
		blocks []string
	}{
		{"C.5 plain", []string{
			"4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
			"4803333037c1c0bf",
			"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
		}},
		{"C.6 huffman", []string{
			"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
			"4883640effc1c0bf",
			"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
		}},
	}
	want := [][]field{
		{{":status", "302"}, {"cache-control", "private"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"location", "https://www.example.com"}},
		{{":status", "307"}, {"cache-control", "private"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"location", "https://www.example.com"}},
		{
			{":status", "200"},
			{"cache-control", "private"},
			{"date", "Mon, 21 Oct 2013 20:13:22 GMT"},
			{"location", "https://www.example.com"},
			{"content-encoding", "gzip"},
			{"set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decoder{limit: 256}
			for i, text := range tt.blocks {
				block, err := hex.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				got, err := d.block(block)
				if err != nil {
					t.Fatalf("block %d: %v", i, err)
				}
				if diff := cmp.Diff(want[i], got, cmp.AllowUnexported(field{})); diff != "" {
					t.Errorf("block %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// TestHuffmanAllBytes decodes the reference encoder's output of every byte.
func TestHuffmanAllBytes(t *testing.T) {
	for c := range 256 {
		want := string([]byte{byte(c), 'x', byte(c)})
		got, err := new(huffmanCode).decode(hpack.AppendHuffmanString(nil, want))
		if err != nil || got != want {
			t.Errorf("byte %#x: %q, %v", c, got, err)
		}
	}
}

// TestHpackErrors decodes blocks that must be refused.
func TestHpackErrors(t *testing.T) {
	tests := map[string]struct {
		block []byte
		want  error
	}{
		"index zero":             {[]byte{0x80}, errHpackIndex},
		"index past the tables":  {[]byte{0xbe}, errHpackIndex},
		"name past the tables":   {[]byte{0x7e, 0}, errHpackIndex},
		"cut off integer":        {[]byte{0xff}, errHpackEnd},
		"huge integer":           {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}, errHpackInt},
		"cut off string":         {[]byte{0x00, 5, 'a'}, errHpackEnd},
		"cut off literal":        {[]byte{0x40}, errHpackEnd},
		"table too large":        {[]byte{0x3f, 0xe2, 0x1f}, errHpackSize},
		"late table size update": {[]byte{0x88, 0x20}, errHpackSize},
		"padding with zeros":     {[]byte{0x00, 0x81, 0x00, 0}, errHuffman},
		"padding of a byte":      {[]byte{0x00, 0x82, 0x1f, 0xff, 0}, errHuffman},
		"end of string symbol":   {[]byte{0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0}, errHuffman},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := decoder{limit: hpackTable}
			if _, err := d.block(tt.block); err != tt.want { //nolint:errorlint // constants
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// FuzzHpack compares the decoder with the reference over two blocks of one
// connection.
func FuzzHpack(f *testing.F) {
	f.Add([]byte{0x88, 0x5f, 0x10, 'a'}, []byte{0xbe})
	f.Add([]byte{0x20, 0x88}, []byte{0x40, 1, 'a', 1, 'b'})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var want []field
		reference := hpack.NewDecoder(hpackTable, func(h hpack.HeaderField) { want = append(want, field{h.Name, h.Value}) })
		d := decoder{limit: hpackTable}
		for _, block := range [][]byte{first, second} {
			want = nil
			_, refErr := reference.Write(block)
			if refErr == nil {
				refErr = reference.Close()
			}
			got, err := d.block(bytes.Clone(block))
			if refErr != nil || err != nil {
				// The reference also accepts blocks on which the RFC leaves a choice,
				// such as larger integers; ours must refuse every block that it refuses.
				if refErr != nil && err == nil {
					t.Fatalf("accepted %x, reference says %v", block, refErr)
				}
				return
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(field{})); diff != "" && len(want)+len(got) > 0 {
				t.Fatalf("%x (-reference +got):\n%s", block, diff)
			}
		}
	})
}
