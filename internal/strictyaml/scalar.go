package strictyaml

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Word reads any text that is not empty.
func Word(dst *string) func(Value) {
	return func(v Value) {
		if s, ok := v.Text("a word"); ok {
			if strings.TrimSpace(s) == "" {
				v.Fail("is empty; write a value or remove the key")
				return
			}
			*dst = s
		}
	}
}

// File reads an absolute path.
func File(dst *string) func(Value) {
	return func(v Value) {
		s, ok := v.Text("an absolute path")
		if !ok {
			return
		}
		if !filepath.IsAbs(s) || strings.ContainsRune(s, 0) {
			v.Fail("%q is not an absolute path; begin it with \"/\"", s)
			return
		}
		*dst = filepath.Clean(s)
	}
}

// Bool reads true or false.
func Bool(dst *bool) func(Value) {
	return func(v Value) {
		switch s, ok := v.Text("true or false"); {
		case !ok:
		case s == "true":
			*dst = true
		case s == "false":
			*dst = false
		default:
			v.Fail("%q is not a boolean; use true or false", s)
		}
	}
}

// Number reads a decimal number from low to high.
func Number[T ~int | ~uint8 | ~uint16 | ~uint32](dst *T, low, high uint32) func(Value) {
	return func(v Value) {
		s, ok := v.Text("a number")
		if !ok {
			return
		}
		n, err := strconv.ParseUint(s, 10, 64)
		switch {
		case isRange(err), err == nil && (n < uint64(low) || n > uint64(high)):
			v.Fail("%s is out of range; use %d to %d", s, low, high)
		case err != nil, len(s) > 1 && s[0] == '0':
			// A leading zero is octal to some readers of YAML.
			v.Fail("%q is not a number; use %d to %d", s, low, high)
		default:
			*dst = T(n)
		}
	}
}

// isRange reports whether strconv understood the digits but has no room.
func isRange(err error) bool {
	numError, ok := err.(*strconv.NumError) //nolint:errorlint // strconv documents this type
	return ok && errors.Is(numError.Err, strconv.ErrRange)
}

// Duration reads a time such as 300ms, from low to high.
func Duration(dst *time.Duration, low, high time.Duration) func(Value) {
	return func(v Value) {
		s, ok := v.Text("a duration such as 90s")
		if !ok {
			return
		}
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			v.Fail("%q is not a duration; use a number with a unit, such as 300ms, 90s or 5m", s)
		case d < low || d > high:
			v.Fail("%s is out of range; use %s to %s", s, low, high)
		default:
			*dst = d
		}
	}
}

// Seconds reads a duration that travels in whole seconds.
func Seconds(dst *time.Duration, low, high time.Duration) func(Value) {
	return func(v Value) {
		d := low
		Duration(&d, low, high)(v)
		if d%time.Second != 0 {
			v.Fail("%s is not a whole number of seconds; use %s or %s", d, d.Truncate(time.Second), d.Truncate(time.Second)+time.Second)
			return
		}
		if !v.IsNull() {
			*dst = d
		}
	}
}

// OneOf reads one of the given words.
func OneOf[T ~string](dst *T, words ...T) func(Value) {
	return func(v Value) {
		names := make([]string, len(words))
		for i, w := range words {
			names[i] = string(w)
		}
		s, ok := v.Text(strings.Join(names, ", "))
		if !ok {
			return
		}
		if !slices.Contains(names, s) {
			v.Fail("%q is not known; %s", s, Suggest(s, names))
			return
		}
		*dst = T(s)
	}
}
