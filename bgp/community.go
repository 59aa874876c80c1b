package bgp

import (
	"fmt"
	"strconv"
	"strings"
)

// Well-known communities.
const (
	communityGracefulShutdown = 0xffff0000 // 65535:0, RFC 8326
	communityLLGRStale        = 0xffff0006 // 65535:6, RFC 9494
)

// large is a large community (RFC 8092).
type large [3]uint32

// parseCommunities splits a list of communities in text form into the
// standard ones and the large ones; field names the list in errors.
func parseCommunities(field string, list []string) (std []uint32, lrg []large, err error) {
	for _, text := range list {
		parts := strings.Split(text, ":")
		bits := 16
		if len(parts) == 3 {
			bits = 32
		}
		var v large
		for i, p := range parts {
			n, err := strconv.ParseUint(p, 10, bits)
			if err != nil || len(parts) < 2 || len(parts) > 3 {
				return nil, nil, fmt.Errorf("%w: %s: %q is not a community: write AS:VALUE (each up to 65535) or AS:VALUE:VALUE", ErrConfig, field, text)
			}
			v[i] = uint32(n)
		}
		if len(parts) == 2 {
			std = append(std, v[0]<<16|v[1])
		} else {
			lrg = append(lrg, v)
		}
	}
	return std, lrg, nil
}

// communityText writes a standard community as AS:VALUE.
func communityText(c uint32) string {
	return strconv.FormatUint(uint64(c>>16), 10) + ":" + strconv.FormatUint(uint64(c&0xffff), 10)
}
