"""What commits have recorded that decides who may see whom: kept beside the resources.

`parts` says what a resource can contribute, `reading` makes it of a resource, `kept` keeps it in
the commit that writes the resource, `remaking` makes all of it anew, `record` is what a patient's
parts come to.
"""
