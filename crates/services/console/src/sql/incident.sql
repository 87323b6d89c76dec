SELECT record FROM incidents WHERE id = {id:String} ORDER BY seq DESC LIMIT 1
