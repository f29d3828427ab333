module peer-go-net

go 1.19
