package main

import (
	"fmt"
	"regexp"
	"strings"
)

// The forms of tools/version.sh behind the tag.
var (
	afterTag  = regexp.MustCompile(`^(.+)-(\d+)-g([0-9a-f]{7,40})$`)
	beforeAll = regexp.MustCompile(`^0\.0\.0-(\d{14})-([0-9a-f]{12})$`)
)

// packageVersion returns a version as dpkg and rpm order it: neither has a "-" in
// it, "~" is before the version without it, and "+" behind it.
func packageVersion(version string) string {
	v, dirty := strings.CutSuffix(strings.TrimPrefix(version, "v"), "-dirty")
	if m := beforeAll.FindStringSubmatch(v); m != nil {
		v = fmt.Sprintf("0.0.0+git%s.%s", m[1], m[2])
	} else {
		rest := ""
		if m := afterTag.FindStringSubmatch(v); m != nil {
			v, rest = m[1], fmt.Sprintf("+%s.g%s", m[2], m[3])
		}
		v = strings.ReplaceAll(strings.Replace(v, "-", "~", 1), "-", ".") + rest // v0.1.0-rc.1
	}
	if dirty {
		v += "+dirty"
	}
	return v
}
