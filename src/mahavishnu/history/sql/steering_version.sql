SELECT changes FROM steering
