package status

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"testing"
)

// FuzzDecodePath: whatever stands in a path, it is a request or an error; and
// each way of writing the same request is read as it.
func FuzzDecodePath(f *testing.F) {
	for _, seed := range []string{"", "/", "MEU=", "/MEU%3D", "a//b+c==", "%", "%zz", "MEU\u00a0", "-_-_"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		der, err := decodePath(path)
		if err != nil {
			return
		}
		text := base64.StdEncoding.EncodeToString(der)
		for _, form := range []string{text, url.PathEscape(text), url.QueryEscape(text), base64.RawURLEncoding.EncodeToString(der)} {
			if again, err := decodePath("/" + form); len(der) <= MaxRequest && (err != nil || !bytes.Equal(again, der)) && !(len(text) > 0 && text[0] == '/') {
				t.Fatalf("%q is read as %x, %v; want %x", form, again, err, der)
			}
		}
	})
}
