package console

import (
	_ "embed" // openapi.json
	"net/http"
	"sync"
)

// description is the API as an OpenAPI 3.1 document. It is made from the
// routes; a test says so when it is no longer that.
//
//go:generate go test -run "^(TestTheDocumentIsOfTheseRoutes|TestTheDocumentationHasEveryCode)$" -update .
//go:embed openapi.json
var description []byte

// descriptionTag is the description's ETag.
var descriptionTag = sync.OnceValue(func() string { return tagOf(description) })

// document answers with the description, to anybody: it tells what every server of this version tells.
func (c *Console) document(r *call) (answer, error) {
	return answer{status: http.StatusOK, raw: description, header: map[string]string{
		"Content-Type": jsonType, "Cache-Control": "no-cache", "ETag": descriptionTag()}}.tagged(r.Request)
}
