// Package strictyaml reads configuration files in YAML strictly: an unknown
// key, a key given twice, a value of the wrong type or out of range is a
// mistake, and all of them are reported together, each with file, line, field
// and remedy ([Error]). It contains no key: a schema is a function that reads a
// [Value], a line per key.
//
//	func readServer(v strictyaml.Value, s *Server) {
//		v.Mapping(strictyaml.Fields{
//			"port":    strictyaml.Number(&s.Port, 1, 65535),
//			"timeout": strictyaml.Duration(&s.Timeout, time.Second, time.Hour),
//		})
//	}
//
// A key without a value is the same as no key: what a reader would set keeps
// its default. [Keys] lists the keys of a schema. [Apply] edits a file and
// leaves its comments.
package strictyaml
