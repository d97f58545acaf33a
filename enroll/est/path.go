package est

import (
	"fmt"
	"net/url"
	"strings"
)

// wellKnown is the path prefix of RFC 7030, Section 3.2.2.
const wellKnown = "/.well-known/est/"

// parsePath takes a path apart into a label and the name of an operation. Two
// spellings name a label: /.well-known/est/LABEL/OP, the standard's, and
// /LABEL/.well-known/est/OP, the only one that clients can say which append the
// well-known path to whatever they are given, as strongSwan 5.9.8 does. Nothing
// is cleaned or unescaped: a path is right as it stands, or there is nothing there.
func parsePath(u *url.URL) (label, operation string, ok bool) {
	if u.RawPath != "" { // it was escaped where it need not be, or hides a slash
		return "", "", false
	}
	before, after, found := strings.Cut(u.Path, wellKnown)
	if !found {
		return "", "", false
	}
	operation = after
	inner, last, twoParts := strings.Cut(after, "/")
	switch {
	case before == "" && twoParts:
		label, operation = inner, last
	case before == "" && !twoParts:
		return "", operation, isName(operation)
	case before[0] == '/' && !twoParts:
		label = before[1:]
	default:
		return "", "", false
	}
	return label, operation, CheckLabel(label) == nil && isName(operation)
}

// CheckLabel returns what keeps s from being a label, and so the name of a
// profile: it is [a-z0-9][a-z0-9-]{0,62} and not the name of an operation (RFC
// 7030, Section 3.2.2).
func CheckLabel(s string) error {
	switch {
	case !isName(s) || s[0] == '-':
		return fmt.Errorf("%q cannot stand in an EST path: want 1 to 63 of a-z, 0-9 and -, not starting with -", s)
	case reserved(s):
		return fmt.Errorf("%q is the name of an EST operation", s)
	}
	return nil
}

func isName(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// reserved reports whether s names an operation, here or in RFC 7030, RFC 8295,
// RFC 9148 or a client's own extension.
func reserved(s string) bool {
	switch s {
	case "cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs", "nonce",
		"crts", "sen", "sren", "skg", "skc", "att", "tpmenroll", "crls", "eecerts", "pal":
		return true
	}
	return false
}
