package status

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// maxPath bounds a request in a path: base64 of the longest, each character escaped.
const maxPath = MaxRequest * 4

// decodePath reads a request from what follows the address of the responder
// (RFC 6960, Appendix A.1: base64, url-encoded). Clients differ in what they escape: some
// nothing, so that there are slashes and plus signs; some proxies undo escapes, and some libraries then take
// a plus for a space; some write the alphabet for URLs, and some leave out the padding. No two readings are in each other's way.
func decodePath(escaped string) ([]byte, error) {
	if len(escaped) > maxPath {
		return nil, fmt.Errorf("%w: more than %d characters", errMalformed, maxPath)
	}
	text, err := url.PathUnescape(strings.TrimPrefix(escaped, "/"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	text = strings.NewReplacer(" ", "+", "-", "+", "_", "/", "\r", "", "\n", "").Replace(text)
	der, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return der, nil
}
