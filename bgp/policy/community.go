package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// GracefulShutdown is the community of routes that are about to be withdrawn
// (RFC 8326).
const GracefulShutdown = "65535:0"

// The well-known communities of RFC 1997 that a policy matches without a filter.
const (
	noExport    = "65535:65281"
	noAdvertise = "65535:65282"
)

// wellKnown returns the names that a configuration may have in place of the
// numbers, in the order in which an operator reads them.
func wellKnown() []string {
	return []string{"graceful-shutdown", "blackhole", "no-export", "no-advertise", "no-export-subconfed"}
}

// wellKnownValue returns the number of a well-known community's low half; all
// have the AS 65535.
func wellKnownValue(name string) (uint32, bool) {
	switch name {
	case "graceful-shutdown":
		return 0, true // RFC 8326
	case "blackhole":
		return 666, true // RFC 7999
	case "no-export":
		return 65281, true // RFC 1997
	case "no-advertise":
		return 65282, true // RFC 1997
	case "no-export-subconfed":
		return 65283, true // RFC 1997
	}
	return 0, false
}

// Community is a community in numbers: AS and value (RFC 1997), or the three
// parts of a large one (RFC 8092).
type Community struct {
	Parts [3]uint32
	Large bool
}

// String returns AS:VALUE or AS:VALUE:VALUE, the form that rules compare.
func (c Community) String() string {
	if c.Large {
		return fmt.Sprintf("%d:%d:%d", c.Parts[0], c.Parts[1], c.Parts[2])
	}
	return fmt.Sprintf("%d:%d", c.Parts[0], c.Parts[1])
}

// Standard returns a standard community as four octets (RFC 1997).
func (c Community) Standard() uint32 { return c.Parts[0]<<16 | c.Parts[1] }

// StandardText writes a standard community as AS:VALUE.
func StandardText(c uint32) string {
	return Community{Parts: [3]uint32{c >> 16, c & 0xffff}}.String()
}

// ParseCommunity reads AS:VALUE, AS:VALUE:VALUE or the name of a well-known
// community. The error names the forms.
func ParseCommunity(text string) (Community, error) { return parseCommunity(text, 0, false) }

// ParseCommunities is [ParseCommunity] for a list, split by kind.
func ParseCommunities(list []string) (std, large []Community, err error) {
	for _, text := range list {
		c, err := ParseCommunity(text)
		switch {
		case err != nil:
			return nil, nil, err
		case c.Large:
			large = append(large, c)
		default:
			std = append(std, c)
		}
	}
	return std, large, nil
}

// CanonicalCommunity returns text in the form that rules compare. parts is 2
// for standard communities, 3 for large ones, 0 for both; with patterns, text
// may also be a regular expression that begins with ^ and ends with $.
func CanonicalCommunity(text string, parts int, patterns bool) (string, error) {
	if patterns && strings.HasPrefix(text, "^") {
		if _, err := regexp.Compile(text); err != nil || !strings.HasSuffix(text, "$") {
			return "", fmt.Errorf("%q is not a regular expression from ^ to $; use one such as \"^64512:1..$\"", text)
		}
		return text, nil
	}
	c, err := parseCommunity(text, parts, patterns)
	if err != nil {
		return "", err
	}
	return c.String(), nil
}

func parseCommunity(text string, parts int, patterns bool) (Community, error) {
	if low, ok := wellKnownValue(text); ok && parts != 3 {
		return Community{Parts: [3]uint32{65535, low}}, nil
	}
	words := strings.Split(text, ":")
	c := Community{Large: len(words) == 3}
	bits := 16
	if c.Large {
		bits = 32
	}
	ok := (len(words) == 2 || c.Large) && (parts == 0 || parts == len(words))
	for i := 0; ok && i < len(words); i++ {
		n, err := strconv.ParseUint(words[i], 10, bits)
		c.Parts[i], ok = uint32(n), err == nil
	}
	if ok {
		return c, nil
	}
	names := strings.Join(wellKnown(), ", ")
	form := map[int]string{
		0: "AS:VALUE or AS:VALUE:VALUE in quotes, such as \"64512:100\", or one of " + names,
		2: "AS:VALUE in quotes, such as \"64512:100\", or one of " + names,
		3: "AS:VALUE:VALUE in quotes, such as \"64512:1:2\"",
	}[parts]
	if patterns {
		form += ", or a regular expression from ^ to $"
	}
	return Community{}, fmt.Errorf("%q is not a community; use %s", text, form)
}

// checkCommunities checks a list of communities, checkPatterns one that may
// hold regular expressions too.
func checkCommunities(path string, list []string, parts int) faults {
	return checkEach(path, list, parts, false)
}

func checkPatterns(path string, list []string, parts int) faults {
	return checkEach(path, list, parts, true)
}

func checkEach(path string, list []string, parts int, patterns bool) faults {
	var out faults
	for i, text := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch canonical, err := CanonicalCommunity(text, parts, patterns); {
		case err != nil:
			out.add(at, "%s", err)
		case canonical != text:
			out.add(at, "%q is not the form of a community that rules compare; write %q", text, canonical)
		}
	}
	return out
}

// exactCommunity matches the text of one community.
var exactCommunity = regexp.MustCompile(`^[0-9]+(:[0-9]+){1,2}$`)

// matchesAny reports whether one of the patterns, all checked, matches text.
func matchesAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if exactCommunity.MatchString(p) {
			return p == text
		}
		e, err := regexp.Compile(p)
		return err == nil && e.MatchString(text)
	})
}

// SplitCommunities splits standard from large communities, all valid.
func SplitCommunities(list []string) (std, large []string) {
	for _, c := range list {
		if strings.Count(c, ":") == 1 {
			std = append(std, c)
		} else {
			large = append(large, c)
		}
	}
	return std, large
}
