package console

import (
	"crypto/sha256"
	_ "embed" // openapi.json
	"encoding/base64"
	"net/http"
	"sync"
)

// description is the API as an OpenAPI 3.1 document. It is made from the
// routes; a test says so when it is no longer that.
//
//go:generate go test -run ^TestTheDocumentIsOfTheseRoutes$ -update .
//go:embed openapi.json
var description []byte

// descriptionTag is the description's ETag.
var descriptionTag = sync.OnceValue(func() string { return tagOf(description) })

// tagOf is a strong ETag of a representation (RFC 9110, Section 8.8.3).
func tagOf(representation []byte) string {
	sum := sha256.Sum256(representation)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// document answers with the description, to anybody: it tells what every server of this version tells.
func (c *Console) document(r *http.Request) (answer, error) {
	return answer{status: http.StatusOK, raw: description, header: map[string]string{
		"Content-Type": jsonType, "Cache-Control": "no-cache", "ETag": descriptionTag()}}, nil
}
